main:
   0: r3 = *(u64 *)(r1 + 112)
   1: r3 += 8
   2: r1 = r10
   3: r1 += -24
   4: r2 = 17
   5: call bpf_probe_read_kernel#113
   6: r1 = *(u32 *)(r10 - 24)
   7: r0 = *(u64 *)(r10 - 16)
   8: if r1 != 0x1 goto +12
   9: r1 = *(u32 *)(r10 - 20)
  10: r3 = *(u8 *)(r10 - 8)
  11: if r1 == 0x2 goto +11
  12: r2 = 0
  13: if r2 >= 0x10 goto +7
  14: r2 += 1
  15: r1 = 0x123456789abcdef ll
  17: r0 = r3
  18: r0 += r1
  19: if r0 != 0x7 goto -7
  20: exit
  21: r0 = 0
  22: exit
  23: r0 += r3
  24: exit
