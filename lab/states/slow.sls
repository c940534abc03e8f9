# An update that takes as many seconds as the file says, and writes down when it is done.
slow:
  cmd.run:
    - name: sleep $(cat /etc/slow) && date +%s.%N >>/var/log/slow
