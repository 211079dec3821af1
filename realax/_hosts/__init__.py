"""One run on several processes, each with devices of its own."""

from ._errors import PeerError as PeerError
from ._initialize import initialize_hosts as initialize_hosts
