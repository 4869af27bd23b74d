"""What a compiled graph computes: the upstream modules, with precision and operators that a compiler can keep."""
