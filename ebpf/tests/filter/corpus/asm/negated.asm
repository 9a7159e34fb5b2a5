; not (arp or port 22)
filter:
   0: r2 = *(u64 *)(r1 + 0)
   1: r3 = *(u64 *)(r1 + 8)
   2: if r3 s< 0xe goto +52
   3: r0 = *(u16 *)(r2 + 12)
   4: if w0 == 0x608 goto +50
   5: if w0 == 0xdd86 goto +35
   6: if w0 != 0x8 goto +46
   7: r3 -= 14
   8: if r3 s< 0xa goto +46
   9: r2 += 14
  10: r0 = *(u8 *)(r2 + 9)
  11: if w0 == 0x6 goto +2
  12: if w0 == 0x11 goto +1
  13: if w0 != 0x84 goto +39
  14: r0 = *(u16 *)(r2 + 6)
  15: if w0 & 0xff1f goto +37
  16: r1 = *(u8 *)(r2 + 0)
  17: w1 &= 15
  18: if w1 == 0x5 goto +16
  19: w1 <<= 2
  20: r0 = r1
  21: r0 += 2
  22: if r0 s> r3 goto +32
  23: r0 = r2
  24: r0 += r1
  25: r0 = *(u16 *)(r0 + 0)
  26: if w0 == 0x1600 goto +28
  27: r1 += 2
  28: r0 = r1
  29: r0 += 2
  30: if r0 s> r3 goto +24
  31: r2 += r1
  32: r0 = *(u16 *)(r2 + 0)
  33: if w0 == 0x1600 goto +21
  34: goto +18
  35: if r3 s< 0x18 goto +19
  36: r0 = *(u16 *)(r2 + 20)
  37: if w0 == 0x1600 goto +17
  38: r0 = *(u16 *)(r2 + 22)
  39: if w0 == 0x1600 goto +15
  40: goto +12
  41: r3 -= 14
  42: if r3 s< 0x7 goto +12
  43: r2 += 14
  44: r0 = *(u8 *)(r2 + 6)
  45: if w0 == 0x6 goto +2
  46: if w0 == 0x11 goto +1
  47: if w0 != 0x84 goto +5
  48: if r3 s< 0x2c goto +6
  49: r0 = *(u16 *)(r2 + 40)
  50: if w0 == 0x1600 goto +4
  51: r0 = *(u16 *)(r2 + 42)
  52: if w0 == 0x1600 goto +2
  53: r0 = 1
  54: exit
  55: r0 = 0
  56: exit
