from . import envs as envs
