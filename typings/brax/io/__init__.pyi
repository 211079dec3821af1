from . import json as json
