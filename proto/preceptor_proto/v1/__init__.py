"""Generated messages of the Preceptor protocol; the sources are the .proto files beside them."""
