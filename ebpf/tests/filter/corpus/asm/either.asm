; host 10.0.0.1 or net 2001:db8::/32
filter:
   0: r2 = *(u64 *)(r1 + 0)
   1: r1 = *(u64 *)(r1 + 8)
   2: if r1 s< 0xe goto +60
   3: r0 = *(u16 *)(r2 + 12)
   4: r0 = be16 r0
   5: if w0 == 0x800 goto +45
   6: if w0 == 0x806 goto +34
   7: if w0 == 0x8035 goto +23
   8: if w0 != 0x86dd goto +54
   9: r1 -= 14
  10: if r1 s< 0x18 goto +52
  11: r2 += 14
  12: r0 = *(u32 *)(r2 + 8)
  13: if w0 != 0xb80d0120 goto +7
  14: r0 = *(u32 *)(r2 + 12)
  15: if w0 & 0x0 goto +5
  16: r0 = *(u32 *)(r2 + 16)
  17: if w0 & 0x0 goto +3
  18: r0 = *(u32 *)(r2 + 20)
  19: if w0 & 0x0 goto +1
  20: goto +40
  21: if r1 s< 0x28 goto +41
  22: r0 = *(u32 *)(r2 + 24)
  23: if w0 != 0xb80d0120 goto +39
  24: r0 = *(u32 *)(r2 + 28)
  25: if w0 & 0x0 goto +37
  26: r0 = *(u32 *)(r2 + 32)
  27: if w0 & 0x0 goto +35
  28: r0 = *(u32 *)(r2 + 36)
  29: if w0 & 0x0 goto +33
  30: goto +30
  31: r1 -= 14
  32: if r1 s< 0x12 goto +30
  33: r2 += 14
  34: r0 = *(u32 *)(r2 + 14)
  35: if w0 == 0x100000a goto +25
  36: if r1 s< 0x1c goto +26
  37: r0 = *(u32 *)(r2 + 24)
  38: if w0 == 0x100000a goto +22
  39: r0 = 0
  40: exit
  41: r1 -= 14
  42: if r1 s< 0x12 goto +20
  43: r2 += 14
  44: r0 = *(u32 *)(r2 + 14)
  45: if w0 == 0x100000a goto +15
  46: if r1 s< 0x1c goto +16
  47: r0 = *(u32 *)(r2 + 24)
  48: if w0 == 0x100000a goto +12
  49: r0 = 0
  50: exit
  51: r1 -= 14
  52: if r1 s< 0x10 goto +10
  53: r2 += 14
  54: r0 = *(u32 *)(r2 + 12)
  55: if w0 == 0x100000a goto +5
  56: if r1 s< 0x14 goto +6
  57: r0 = *(u32 *)(r2 + 16)
  58: if w0 == 0x100000a goto +2
  59: r0 = 0
  60: exit
  61: r0 = 1
  62: exit
  63: r0 = 0
  64: exit
