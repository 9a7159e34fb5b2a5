main:
   0: r4 = *(u64 *)(r1 + 0)
   1: r0 = 0
   2: r1 = map[zero][0]+0
   4: r1 = *(u64 *)(r1 + 0)
   5: may_goto +13
   6: if r1 >= 0x186a0 goto +12
   7: r1 += 1
   8: if r4 == 0x0 goto +10
   9: r2 = 0
  10: if r2 >= 0x4 goto +6
  11: r2 += 1
  12: r3 = r4
  13: r3 &= 1
  14: r0 += r3
  15: r4 >>= 1
  16: if r4 & 0x1 goto -7
  17: r0 *= 3
  18: goto -14
  19: exit
