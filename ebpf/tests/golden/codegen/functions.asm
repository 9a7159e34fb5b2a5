main:
   0: r7 = *(u64 *)(r1 + 0)
   1: r6 = *(u64 *)(r1 + 8)
   2: r1 = r6
   3: r2 = r7
   4: r3 = 7
   5: call rotate
   6: r1 = r7
   7: r2 = r0
   8: r3 = r6
   9: call rotate
  10: exit
rotate:
  11: r6 = r2
  12: r2 = r3
  13: if r1 == 0x0 goto +5
  14: r3 = r1
  15: r1 = r6
  16: call leaf
  17: r0 += r6
  18: exit
  19: r0 = 0
  20: exit
leaf:
  21: r0 = r1
  22: r0 -= r3
  23: r0 *= r2
  24: exit
