slow:
  cmd.run:
    - name: sleep 150 && date >>/var/log/slow.ran
