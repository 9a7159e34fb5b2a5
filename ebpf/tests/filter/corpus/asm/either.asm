; host 10.0.0.1 or net 2001:db8::/32
filter:
   0: r2 = *(u64 *)(r1 + 0)
   1: r1 = *(u64 *)(r1 + 8)
   2: if r1 s< 0xe goto +59
   3: r0 = *(u16 *)(r2 + 12)
   4: if w0 == 0x8 goto +45
   5: if w0 == 0x608 goto +34
   6: if w0 == 0x3580 goto +23
   7: if w0 != 0xdd86 goto +54
   8: r1 -= 14
   9: if r1 s< 0x18 goto +52
  10: r2 += 14
  11: r0 = *(u32 *)(r2 + 8)
  12: if w0 != 0xb80d0120 goto +7
  13: r0 = *(u32 *)(r2 + 12)
  14: if w0 & 0x0 goto +5
  15: r0 = *(u32 *)(r2 + 16)
  16: if w0 & 0x0 goto +3
  17: r0 = *(u32 *)(r2 + 20)
  18: if w0 & 0x0 goto +1
  19: goto +40
  20: if r1 s< 0x28 goto +41
  21: r0 = *(u32 *)(r2 + 24)
  22: if w0 != 0xb80d0120 goto +39
  23: r0 = *(u32 *)(r2 + 28)
  24: if w0 & 0x0 goto +37
  25: r0 = *(u32 *)(r2 + 32)
  26: if w0 & 0x0 goto +35
  27: r0 = *(u32 *)(r2 + 36)
  28: if w0 & 0x0 goto +33
  29: goto +30
  30: r1 -= 14
  31: if r1 s< 0x12 goto +30
  32: r2 += 14
  33: r0 = *(u32 *)(r2 + 14)
  34: if w0 == 0x100000a goto +25
  35: if r1 s< 0x1c goto +26
  36: r0 = *(u32 *)(r2 + 24)
  37: if w0 == 0x100000a goto +22
  38: r0 = 0
  39: exit
  40: r1 -= 14
  41: if r1 s< 0x12 goto +20
  42: r2 += 14
  43: r0 = *(u32 *)(r2 + 14)
  44: if w0 == 0x100000a goto +15
  45: if r1 s< 0x1c goto +16
  46: r0 = *(u32 *)(r2 + 24)
  47: if w0 == 0x100000a goto +12
  48: r0 = 0
  49: exit
  50: r1 -= 14
  51: if r1 s< 0x10 goto +10
  52: r2 += 14
  53: r0 = *(u32 *)(r2 + 12)
  54: if w0 == 0x100000a goto +5
  55: if r1 s< 0x14 goto +6
  56: r0 = *(u32 *)(r2 + 16)
  57: if w0 == 0x100000a goto +2
  58: r0 = 0
  59: exit
  60: r0 = 1
  61: exit
  62: r0 = 0
  63: exit
