main:
   0: r0 = *(u64 *)(r1 + 0)
   1: r1 = r0
   2: r1 += 5
   3: r1 += -2147483648
   4: w0 = -2147483648
   5: r1 += r0
   6: r0 = 0x123456789abcdef ll
   8: r1 += r0
   9: w1 += -1
  10: w0 = -1
  11: r1 ^= r0
  12: r0 = 0
  13: w1 = w1
  14: r1 += r0
  15: w0 = -1
  16: if r1 == r0 goto +6
  17: if w1 == 0xffffffff goto +3
  18: r0 = 0x123456789abcdef0 ll
  20: exit
  21: r0 = -1
  22: exit
  23: w0 = -1
  24: exit
