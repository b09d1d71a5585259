"""Exit 0 while the service of this container answers requests: the health check of the images.

    python ready.py REST_PORT

http.client and not urllib: a proxy in the environment must not be asked for loopback.
"""

import sys
from http.client import HTTPConnection

TIMEOUT_S = 3.0


def main() -> int:
    connection = HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        reply = connection.getresponse()
        sys.stdout.write(f"{reply.status} {reply.read(500).decode(errors='replace')}\n")  # `docker inspect` shows it
    except OSError as error:
        sys.stdout.write(f"no answer: {error}\n")
        return 1
    return 0 if reply.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
