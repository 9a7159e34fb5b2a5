error: a program for entry and return needs kprobe sessions (Linux 6.10+)
