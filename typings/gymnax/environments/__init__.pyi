from . import spaces as spaces
