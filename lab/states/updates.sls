# Updates, played: once for each node, which asks for a reboot; on a node with /etc/broken they fail.
fit:
  cmd.run:
    - name: test ! -e /etc/broken
    - unless: test ! -e /etc/broken

/etc/updated:
  file.managed:
    - contents: version 2
    - require:
      - cmd: fit

/run/reboot-required:
  file.managed:
    - contents: "*** System restart required ***"
    - onchanges:
      - file: /etc/updated
