main:
   0: r4 = *(u64 *)(r1 + 0)
   1: r0 = 0
   2: r1 = 0
   3: if r1 >= 0xa goto +12
   4: r1 += 1
   5: if r4 == 0x0 goto +10
   6: r2 = 0
   7: if r2 >= 0x4 goto +6
   8: r2 += 1
   9: r3 = r4
  10: r3 &= 1
  11: r0 += r3
  12: r4 >>= 1
  13: if r4 & 0x1 goto -7
  14: r0 *= 3
  15: goto -13
  16: exit
