"""What a collective costs on the wire."""


def ring_bytes_sent(kind: str, size: int, ranks: int) -> int:
    """Bytes one of `ranks` ranks sends with the ring algorithm when each puts in `size` bytes.

    all-reduce 2(n-1)/n s, all-gather (n-1) s, reduce-scatter and all-to-all (n-1)/n s; n ranks, s bytes put in.
    """
    sent = {"all-reduce": 2 * size / ranks, "all-gather": size}.get(kind, size / ranks)
    return round((ranks - 1) * sent)
