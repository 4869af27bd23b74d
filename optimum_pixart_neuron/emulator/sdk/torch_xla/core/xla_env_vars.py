"""Names of the environment variables that say how processes are laid out (torch_xla 2.8 `core/xla_env_vars.py`)."""

WORLD_SIZE = "WORLD_SIZE"
LOCAL_WORLD_SIZE = "LOCAL_WORLD_SIZE"
HOST_WORLD_SIZE = "XRT_HOST_WORLD_SIZE"
PJRT_DEVICE = "PJRT_DEVICE"
