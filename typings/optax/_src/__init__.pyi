from . import alias as alias
