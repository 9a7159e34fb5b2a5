; tcp dst portrange 1000-2000
filter:
   0: r0 = *(u64 *)(r1 + 0)
   1: r3 = *(u64 *)(r1 + 8)
   2: if r3 s< 0xe goto +44
   3: r1 = *(u16 *)(r0 + 12)
   4: r1 = be16 r1
   5: if w1 == 0x86dd goto +28
   6: if w1 != 0x800 goto +40
   7: r3 -= 14
   8: if r3 s< 0xa goto +38
   9: r0 += 14
  10: r1 = *(u8 *)(r0 + 9)
  11: if w1 != 0x6 goto +35
  12: r1 = *(u16 *)(r0 + 6)
  13: if w1 & 0xff1f goto +33
  14: r2 = *(u8 *)(r0 + 0)
  15: w2 &= 15
  16: if w2 == 0x5 goto +11
  17: w2 <<= 2
  18: r2 += 2
  19: r1 = r2
  20: r1 += 2
  21: if r1 s> r3 goto +25
  22: r0 += r2
  23: r0 = *(u16 *)(r0 + 0)
  24: r0 = be16 r0
  25: if w0 < 0x3e8 goto +21
  26: if w0 <= 0x7d0 goto +18
  27: goto +19
  28: if r3 s< 0x18 goto +18
  29: r0 = *(u16 *)(r0 + 22)
  30: r0 = be16 r0
  31: if w0 < 0x3e8 goto +15
  32: if w0 <= 0x7d0 goto +12
  33: goto +13
  34: r3 -= 14
  35: if r3 s< 0x2c goto +11
  36: r0 += 14
  37: r1 = *(u8 *)(r0 + 6)
  38: if w1 != 0x6 goto +8
  39: r0 = *(u16 *)(r0 + 42)
  40: r0 = be16 r0
  41: if w0 < 0x3e8 goto +1
  42: if w0 <= 0x7d0 goto +2
  43: r0 = 0
  44: exit
  45: r0 = 1
  46: exit
  47: r0 = 0
  48: exit
