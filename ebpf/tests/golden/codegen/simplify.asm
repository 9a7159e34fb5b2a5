main:
   0: r3 = *(u64 *)(r1 + 112)
   1: r3 += 8
   2: r1 = r10
   3: r1 += -8
   4: r2 = 4
   5: call bpf_probe_read_kernel#113
   6: r1 = *(u32 *)(r10 - 8)
   7: r0 = r1
   8: r0 += 42
   9: if w1 == 0xf0000000 goto +5
  10: if r1 > 0x6 goto +2
  11: r0 = 0
  12: exit
  13: r0 = r1
  14: exit
  15: w0 &= 255
  16: exit
