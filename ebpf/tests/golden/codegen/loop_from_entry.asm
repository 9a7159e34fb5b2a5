main:
   0: r6 = 0
   1: if r6 >= 0x64 goto +3
   2: r6 += 1
   3: call bpf_ktime_get_ns#5
   4: if r0 != 0x0 goto -4
   5: r0 = 0
   6: exit
