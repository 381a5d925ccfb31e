"""Ray: documents are read and embedded, and shards are searched, on a cluster; `leanrag.serving.on_ray` answers there.

Needs the extra `ray`. Nothing of Ray is imported before it is used.
"""

from leanrag.adapters.ray.ingest import RayWorkers as RayWorkers
from leanrag.adapters.ray.shards import RayShards as RayShards
