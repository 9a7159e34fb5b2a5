; host 10.0.0.1 or net 2001:db8::/32
filter:
   0: r2 = *(u64 *)(r1 + 0)
   1: r1 = *(u64 *)(r1 + 8)
   2: if r1 s< 0xe goto +55
   3: r0 = *(u16 *)(r2 + 12)
   4: if w0 == 0x8 goto +43
   5: if w0 == 0x608 goto +33
   6: if w0 == 0x3580 goto +23
   7: if w0 != 0xdd86 goto +50
   8: r1 -= 14
   9: if r1 s< 0x18 goto +48
  10: r2 += 14
  11: r0 = *(u32 *)(r2 + 8)
  12: if w0 != 0xb80d0120 goto +7
  13: r0 = *(u32 *)(r2 + 12)
  14: if w0 & 0x0 goto +5
  15: r0 = *(u32 *)(r2 + 16)
  16: if w0 & 0x0 goto +3
  17: r0 = *(u32 *)(r2 + 20)
  18: if w0 & 0x0 goto +1
  19: goto +36
  20: if r1 s< 0x28 goto +37
  21: r0 = *(u32 *)(r2 + 24)
  22: if w0 != 0xb80d0120 goto +35
  23: r0 = *(u32 *)(r2 + 28)
  24: if w0 & 0x0 goto +33
  25: r0 = *(u32 *)(r2 + 32)
  26: if w0 & 0x0 goto +31
  27: r0 = *(u32 *)(r2 + 36)
  28: if w0 & 0x0 goto +29
  29: goto +26
  30: r1 -= 14
  31: if r1 s< 0x12 goto +26
  32: r2 += 14
  33: r0 = *(u32 *)(r2 + 14)
  34: if w0 == 0x100000a goto +21
  35: if r1 s< 0x1c goto +22
  36: r0 = *(u32 *)(r2 + 24)
  37: if w0 == 0x100000a goto +18
  38: goto +19
  39: r1 -= 14
  40: if r1 s< 0x12 goto +17
  41: r2 += 14
  42: r0 = *(u32 *)(r2 + 14)
  43: if w0 == 0x100000a goto +12
  44: if r1 s< 0x1c goto +13
  45: r0 = *(u32 *)(r2 + 24)
  46: if w0 == 0x100000a goto +9
  47: goto +10
  48: r1 -= 14
  49: if r1 s< 0x10 goto +8
  50: r2 += 14
  51: r0 = *(u32 *)(r2 + 12)
  52: if w0 == 0x100000a goto +3
  53: if r1 s< 0x14 goto +4
  54: r0 = *(u32 *)(r2 + 16)
  55: if w0 != 0x100000a goto +2
  56: r0 = 1
  57: exit
  58: r0 = 0
  59: exit
