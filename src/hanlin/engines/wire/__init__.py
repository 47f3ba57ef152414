"""An HTTP/1.1 client for engines: one request at a time on a connection, a bounded pool a peer, separate deadlines.

Written for one job, reading token streams with the least delay: bytes go from the socket through httptools to whoever
reads, several frames of one packet in one piece. A slow reader stops the socket (back-pressure), an abandoned response
closes its connection, because that is the only signal that makes an engine stop generating.
"""

from hanlin.engines.wire.address import Address
from hanlin.engines.wire.client import Client, Response
from hanlin.engines.wire.connection import Buffer
from hanlin.engines.wire.deadlines import Deadlines, Watch
from hanlin.engines.wire.proxies import Proxy, proxy_for

__all__ = ["Address", "Buffer", "Client", "Deadlines", "Proxy", "Response", "Watch", "proxy_for"]
