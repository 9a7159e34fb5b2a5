error: an atomic operation that is not a plain addition needs atomic instructions (kernel 5.12)
