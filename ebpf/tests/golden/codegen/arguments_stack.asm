error: argument 6 of a kprobe needs an argument that is passed in a register
