; udp and dst 8.8.8.8 and port 53
filter:
   0: r3 = *(u64 *)(r1 + 0)
   1: r2 = *(u64 *)(r1 + 8)
   2: if r2 s< 0xe goto +39
   3: r0 = *(u16 *)(r3 + 12)
   4: r0 = be16 r0
   5: if w0 != 0x800 goto +36
   6: r2 -= 14
   7: if r2 s< 0x14 goto +34
   8: r3 += 14
   9: r0 = *(u8 *)(r3 + 9)
  10: if w0 != 0x11 goto +31
  11: r0 = *(u32 *)(r3 + 16)
  12: if w0 != 0x8080808 goto +29
  13: r0 = *(u16 *)(r3 + 6)
  14: if w0 & 0xff1f goto +27
  15: r1 = *(u8 *)(r3 + 0)
  16: w1 &= 15
  17: if w1 == 0x5 goto +16
  18: w1 <<= 2
  19: r0 = r1
  20: r0 += 2
  21: if r0 s> r2 goto +20
  22: r0 = r3
  23: r0 += r1
  24: r0 = *(u16 *)(r0 + 0)
  25: if w0 == 0x3500 goto +14
  26: r1 += 2
  27: r0 = r1
  28: r0 += 2
  29: if r0 s> r2 goto +12
  30: r3 += r1
  31: r0 = *(u16 *)(r3 + 0)
  32: if w0 == 0x3500 goto +7
  33: goto +8
  34: if r2 s< 0x16 goto +7
  35: r0 = *(u16 *)(r3 + 20)
  36: if w0 == 0x3500 goto +3
  37: if r2 s< 0x18 goto +4
  38: r0 = *(u16 *)(r3 + 22)
  39: if w0 != 0x3500 goto +2
  40: r0 = 1
  41: exit
  42: r0 = 0
  43: exit
