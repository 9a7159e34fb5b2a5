main:
   0: r2 = *(u64 *)(r1 + 0)
   1: r0 = *(u64 *)(r1 + 8)
   2: if r2 == r0 goto +14
   3: if r2 == 0x1 goto +13
   4: if r2 >= 0x2 goto +12
   5: if w2 > 0x3 goto +11
   6: if w2 <= 0x4 goto +10
   7: if r2 < 0x5 goto +9
   8: if r2 s>= 0x6 goto +8
   9: if r2 s> 0x7 goto +7
  10: if r2 s<= 0x8 goto +6
  11: if r2 s< 0x9 goto +5
  12: if r2 & 0xa goto +1
  13: goto +3
  14: if r2 & 0xb goto +2
  15: r0 = 1
  16: exit
  17: r0 = 0
  18: exit
