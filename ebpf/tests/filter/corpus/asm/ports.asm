; tcp dst portrange 1000-2000
filter:
   0: r0 = *(u64 *)(r1 + 0)
   1: r3 = *(u64 *)(r1 + 8)
   2: if r3 s< 0xe goto +41
   3: r1 = *(u16 *)(r0 + 12)
   4: if w1 == 0xdd86 goto +28
   5: if w1 != 0x8 goto +38
   6: r3 -= 14
   7: if r3 s< 0xa goto +36
   8: r0 += 14
   9: r1 = *(u8 *)(r0 + 9)
  10: if w1 != 0x6 goto +33
  11: r1 = *(u16 *)(r0 + 6)
  12: if w1 & 0xff1f goto +31
  13: r2 = *(u8 *)(r0 + 0)
  14: w2 &= 15
  15: if w2 == 0x5 goto +11
  16: w2 <<= 2
  17: r2 += 2
  18: r1 = r2
  19: r1 += 2
  20: if r1 s> r3 goto +23
  21: r0 += r2
  22: r0 = *(u16 *)(r0 + 0)
  23: r0 = be16 r0
  24: if w0 < 0x3e8 goto +19
  25: if w0 <= 0x7d0 goto +16
  26: goto +17
  27: if r3 s< 0x18 goto +16
  28: r0 = *(u16 *)(r0 + 22)
  29: r0 = be16 r0
  30: if w0 < 0x3e8 goto +13
  31: if w0 <= 0x7d0 goto +10
  32: goto +11
  33: r3 -= 14
  34: if r3 s< 0x2c goto +9
  35: r0 += 14
  36: r1 = *(u8 *)(r0 + 6)
  37: if w1 != 0x6 goto +6
  38: r0 = *(u16 *)(r0 + 42)
  39: r0 = be16 r0
  40: if w0 < 0x3e8 goto +3
  41: if w0 > 0x7d0 goto +2
  42: r0 = 1
  43: exit
  44: r0 = 0
  45: exit
