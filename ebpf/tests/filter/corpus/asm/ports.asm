; tcp dst portrange 1000-2000
filter:
   0: r0 = *(u64 *)(r1 + 0)
   1: r3 = *(u64 *)(r1 + 8)
   2: if r3 s< 0xe goto +43
   3: r1 = *(u16 *)(r0 + 12)
   4: if w1 == 0xdd86 goto +28
   5: if w1 != 0x8 goto +40
   6: r3 -= 14
   7: if r3 s< 0xa goto +38
   8: r0 += 14
   9: r1 = *(u8 *)(r0 + 9)
  10: if w1 != 0x6 goto +35
  11: r1 = *(u16 *)(r0 + 6)
  12: if w1 & 0xff1f goto +33
  13: r2 = *(u8 *)(r0 + 0)
  14: w2 &= 15
  15: if w2 == 0x5 goto +11
  16: w2 <<= 2
  17: r2 += 2
  18: r1 = r2
  19: r1 += 2
  20: if r1 s> r3 goto +25
  21: r0 += r2
  22: r0 = *(u16 *)(r0 + 0)
  23: r0 = be16 r0
  24: if w0 < 0x3e8 goto +21
  25: if w0 <= 0x7d0 goto +18
  26: goto +19
  27: if r3 s< 0x18 goto +18
  28: r0 = *(u16 *)(r0 + 22)
  29: r0 = be16 r0
  30: if w0 < 0x3e8 goto +15
  31: if w0 <= 0x7d0 goto +12
  32: goto +13
  33: r3 -= 14
  34: if r3 s< 0x2c goto +11
  35: r0 += 14
  36: r1 = *(u8 *)(r0 + 6)
  37: if w1 != 0x6 goto +8
  38: r0 = *(u16 *)(r0 + 42)
  39: r0 = be16 r0
  40: if w0 < 0x3e8 goto +1
  41: if w0 <= 0x7d0 goto +2
  42: r0 = 0
  43: exit
  44: r0 = 1
  45: exit
  46: r0 = 0
  47: exit
