"""A Ray cluster of two nodes on this machine, in a process of its own: `python two_nodes.py`.

Prints its address; a line on standard input kills the second node as a power cut would, the end of the input ends all.
"""

import sys

from ray.cluster_utils import Cluster

CORES = {"resources": {"neuron_cores": 2}, "num_cpus": 4, "object_store_memory": 100 << 20}


def main() -> None:
    cluster = Cluster(initialize_head=True, connect=False, head_node_args=dict(CORES))
    second = cluster.add_node(**CORES)
    print(cluster.address, flush=True)
    if sys.stdin.readline():
        cluster.remove_node(second, allow_graceful=False)
        print("killed", flush=True)
        sys.stdin.readline()
    cluster.shutdown()


if __name__ == "__main__":
    main()
