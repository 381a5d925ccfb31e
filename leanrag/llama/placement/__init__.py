"""Chooses which parts of a model go on GPUs.

`memory` estimates the memory of a model, `layers` chooses the layers of each GPU, `attention` measures which attention is faster
on a GPU. On a machine without a GPU, the result is always `CPU_ONLY` and `EXACT`.
"""

from leanrag.llama.placement.attention import CANDIDATES as CANDIDATES
from leanrag.llama.placement.attention import EXACT as EXACT
from leanrag.llama.placement.attention import KV_BYTES as KV_BYTES
from leanrag.llama.placement.attention import SMALLEST as SMALLEST
from leanrag.llama.placement.attention import Attention as Attention
from leanrag.llama.placement.attention import KVType as KVType
from leanrag.llama.placement.attention import choices_file as choices_file
from leanrag.llama.placement.attention import choose as choose
from leanrag.llama.placement.layers import CPU_ONLY as CPU_ONLY
from leanrag.llama.placement.layers import DevicePart as DevicePart
from leanrag.llama.placement.layers import GpuOptions as GpuOptions
from leanrag.llama.placement.layers import Placement as Placement
from leanrag.llama.placement.layers import Split as Split
from leanrag.llama.placement.layers import check_gpu_options as check_gpu_options
from leanrag.llama.placement.layers import gpu_devices as gpu_devices
from leanrag.llama.placement.layers import measure_sizes as measure_sizes
from leanrag.llama.placement.layers import place as place
from leanrag.llama.placement.layers import share as share
from leanrag.llama.placement.memory import MemoryEstimate as MemoryEstimate
from leanrag.llama.placement.memory import available_bytes as available_bytes
from leanrag.llama.placement.memory import estimate_memory as estimate_memory
