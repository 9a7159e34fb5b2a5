; udp and dst 8.8.8.8 and port 53
filter:
   0: r3 = *(u64 *)(r1 + 0)
   1: r2 = *(u64 *)(r1 + 8)
   2: if r2 s< 0xe goto +38
   3: r0 = *(u16 *)(r3 + 12)
   4: if w0 != 0x8 goto +36
   5: r2 -= 14
   6: if r2 s< 0x14 goto +34
   7: r3 += 14
   8: r0 = *(u32 *)(r3 + 16)
   9: if w0 != 0x8080808 goto +31
  10: r0 = *(u8 *)(r3 + 9)
  11: if w0 != 0x11 goto +29
  12: r0 = *(u16 *)(r3 + 6)
  13: if w0 & 0xff1f goto +27
  14: r1 = *(u8 *)(r3 + 0)
  15: w1 &= 15
  16: if w1 == 0x5 goto +16
  17: w1 <<= 2
  18: r0 = r1
  19: r0 += 2
  20: if r0 s> r2 goto +20
  21: r0 = r3
  22: r0 += r1
  23: r0 = *(u16 *)(r0 + 0)
  24: if w0 == 0x3500 goto +14
  25: r1 += 2
  26: r0 = r1
  27: r0 += 2
  28: if r0 s> r2 goto +12
  29: r3 += r1
  30: r0 = *(u16 *)(r3 + 0)
  31: if w0 == 0x3500 goto +7
  32: goto +8
  33: if r2 s< 0x16 goto +7
  34: r0 = *(u16 *)(r3 + 20)
  35: if w0 == 0x3500 goto +3
  36: if r2 s< 0x18 goto +4
  37: r0 = *(u16 *)(r3 + 22)
  38: if w0 != 0x3500 goto +2
  39: r0 = 1
  40: exit
  41: r0 = 0
  42: exit
