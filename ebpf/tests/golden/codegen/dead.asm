main:
   0: r0 = 0
   1: exit
