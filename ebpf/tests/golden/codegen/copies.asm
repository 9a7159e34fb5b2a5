main:
   0: r0 = *(u64 *)(r1 + 0)
   1: r3 = *(u16 *)(r0 + 0)
   2: r1 = *(u64 *)(r0 + 8)
   3: if w3 == 0x5 goto +2
   4: w2 = w3
   5: goto +1
   6: r2 = *(u16 *)(r0 + 2)
   7: if r1 == 0x7 goto +3
   8: r0 = r1
   9: r0 += 0
  10: goto +1
  11: r0 = *(u64 *)(r0 + 16)
  12: if w2 != 0x9 goto +5
  13: if r0 != 0x9 goto +4
  14: if w3 != 0x5 goto +3
  15: if r1 != 0x7 goto +2
  16: r0 = 1
  17: exit
  18: r0 = 0
  19: exit
