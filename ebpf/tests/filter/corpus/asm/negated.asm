; not (arp or port 22)
filter:
   0: r2 = *(u64 *)(r1 + 0)
   1: r3 = *(u64 *)(r1 + 8)
   2: if r3 s< 0xe goto +54
   3: r0 = *(u16 *)(r2 + 12)
   4: if w0 == 0x608 goto +52
   5: if w0 == 0xdd86 goto +36
   6: if w0 != 0x8 goto +33
   7: r3 -= 14
   8: if r3 s< 0xa goto +48
   9: r2 += 14
  10: r0 = *(u8 *)(r2 + 9)
  11: if w0 == 0x6 goto +2
  12: if w0 == 0x11 goto +1
  13: if w0 != 0x84 goto +26
  14: r0 = *(u16 *)(r2 + 6)
  15: if w0 & 0xff1f goto +24
  16: r1 = *(u8 *)(r2 + 0)
  17: w1 &= 15
  18: if w1 == 0x5 goto +16
  19: w1 <<= 2
  20: r0 = r1
  21: r0 += 2
  22: if r0 s> r3 goto +34
  23: r0 = r2
  24: r0 += r1
  25: r0 = *(u16 *)(r0 + 0)
  26: if w0 == 0x1600 goto +30
  27: r1 += 2
  28: r0 = r1
  29: r0 += 2
  30: if r0 s> r3 goto +26
  31: r2 += r1
  32: r0 = *(u16 *)(r2 + 0)
  33: if w0 == 0x1600 goto +23
  34: goto +5
  35: if r3 s< 0x18 goto +21
  36: r0 = *(u16 *)(r2 + 20)
  37: if w0 == 0x1600 goto +19
  38: r0 = *(u16 *)(r2 + 22)
  39: if w0 == 0x1600 goto +17
  40: r0 = 1
  41: exit
  42: r3 -= 14
  43: if r3 s< 0x7 goto +13
  44: r2 += 14
  45: r0 = *(u8 *)(r2 + 6)
  46: if w0 == 0x6 goto +2
  47: if w0 == 0x11 goto +1
  48: if w0 != 0x84 goto +6
  49: if r3 s< 0x2a goto +7
  50: r0 = *(u16 *)(r2 + 40)
  51: if w0 == 0x1600 goto +5
  52: if r3 s< 0x2c goto +4
  53: r0 = *(u16 *)(r2 + 42)
  54: if w0 == 0x1600 goto +2
  55: r0 = 1
  56: exit
  57: r0 = 0
  58: exit
