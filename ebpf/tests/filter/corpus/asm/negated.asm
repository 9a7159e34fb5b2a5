; not (arp or port 22)
filter:
   0: r2 = *(u64 *)(r1 + 0)
   1: r3 = *(u64 *)(r1 + 8)
   2: if r3 s< 0xe goto +55
   3: r0 = *(u16 *)(r2 + 12)
   4: r0 = be16 r0
   5: if w0 == 0x806 goto +52
   6: if w0 == 0x86dd goto +36
   7: if w0 != 0x800 goto +33
   8: r3 -= 14
   9: if r3 s< 0xa goto +48
  10: r2 += 14
  11: r0 = *(u8 *)(r2 + 9)
  12: if w0 == 0x6 goto +2
  13: if w0 == 0x11 goto +1
  14: if w0 != 0x84 goto +26
  15: r0 = *(u16 *)(r2 + 6)
  16: if w0 & 0xff1f goto +24
  17: r1 = *(u8 *)(r2 + 0)
  18: w1 &= 15
  19: if w1 == 0x5 goto +16
  20: w1 <<= 2
  21: r0 = r1
  22: r0 += 2
  23: if r0 s> r3 goto +34
  24: r0 = r2
  25: r0 += r1
  26: r0 = *(u16 *)(r0 + 0)
  27: if w0 == 0x1600 goto +30
  28: r1 += 2
  29: r0 = r1
  30: r0 += 2
  31: if r0 s> r3 goto +26
  32: r2 += r1
  33: r0 = *(u16 *)(r2 + 0)
  34: if w0 == 0x1600 goto +23
  35: goto +5
  36: if r3 s< 0x18 goto +21
  37: r0 = *(u16 *)(r2 + 20)
  38: if w0 == 0x1600 goto +19
  39: r0 = *(u16 *)(r2 + 22)
  40: if w0 == 0x1600 goto +17
  41: r0 = 1
  42: exit
  43: r3 -= 14
  44: if r3 s< 0x7 goto +13
  45: r2 += 14
  46: r0 = *(u8 *)(r2 + 6)
  47: if w0 == 0x6 goto +2
  48: if w0 == 0x11 goto +1
  49: if w0 != 0x84 goto +6
  50: if r3 s< 0x2a goto +7
  51: r0 = *(u16 *)(r2 + 40)
  52: if w0 == 0x1600 goto +5
  53: if r3 s< 0x2c goto +4
  54: r0 = *(u16 *)(r2 + 42)
  55: if w0 == 0x1600 goto +2
  56: r0 = 1
  57: exit
  58: r0 = 0
  59: exit
