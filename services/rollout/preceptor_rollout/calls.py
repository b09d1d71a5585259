"""Names of the calls that a generation engine answers beyond the common ones, for both sides of the process border."""

GENERATE = "generate"  # Unit -> lists of chunks
PIECES = "pieces"  # PiecesRequest -> PiecesReply
RENDER = "render"  # RenderRequest -> RenderReply
STUDENT = "student"  # nothing -> RolloutDescribeReply
