"""What a compiled graph computes: the unmodified upstream modules, with precision and operators a compiler can keep."""
