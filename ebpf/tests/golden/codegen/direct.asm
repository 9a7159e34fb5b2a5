main:
   0: r0 = *(u64 *)(r1 + 0)
   1: r7 = *(u64 *)(r0 + 16)
   2: r6 = *(s32 *)(r7 + 8)
   3: r3 = *(u64 *)(r0 + 24)
   4: r3 = -r3
   5: r3 = -r3
   6: r3 += r6
   7: r1 = r10
   8: r1 += -16
   9: r2 = 2
  10: call bpf_probe_read_kernel#113
  11: r1 = *(u16 *)(r10 - 16)
  12: r6 += r1
  13: r1 = r7
  14: r1 = -r1
  15: r1 = -r1
  16: r1 &= 255
  17: r6 += r1
  18: r7 += 32
  19: r3 = r7
  20: r1 = r10
  21: r1 += -8
  22: r2 = 8
  23: call bpf_probe_read_kernel#113
  24: r0 = r6
  25: exit
