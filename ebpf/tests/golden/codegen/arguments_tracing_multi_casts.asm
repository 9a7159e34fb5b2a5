main:
   0: r7 = r1
   1: r1 = r7
   2: r2 = 2002
   3: call kfunc#2001
   4: r6 = *(u64 *)(r0 + 0)
   5: r1 = r7
   6: r2 = 2002
   7: call kfunc#2001
   8: r8 = *(u64 *)(r0 + 8)
   9: r1 = r7
  10: r2 = 2002
  11: call kfunc#2001
  12: r0 = *(u64 *)(r0 + 32)
  13: r6 += r8
  14: r6 += r0
  15: r0 = r6
  16: exit
