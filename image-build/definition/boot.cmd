# Run by U-Boot on 32-bit boards, as boot.scr. 64-bit boards go on with the UEFI programs on this medium.
if test "${cpu}" = "armv8" -o -n "${lifeboat_tried}"; then
  echo "Lifeboat: continuing with EFI"
else
  # Should the kernel not start from here, the next attempt is made through EFI.
  setenv lifeboat_tried yes
  part=${distro_bootpart}
  if test -z "${part}"; then part=1; fi
  tree=${fdtcontroladdr}
  if test -n "${fdtfile}"; then
    if load ${devtype} ${devnum}:${part} ${fdt_addr_r} /dtb/${fdtfile}; then tree=${fdt_addr_r}; fi
  fi
  echo "Loading Lifeboat. This takes up to a minute from a slow card ..."
  setenv bootargs loglevel=4 panic=60
  if load ${devtype} ${devnum}:${part} ${kernel_addr_r} /lifeboat/armhf/vmlinuz; then
    if load ${devtype} ${devnum}:${part} ${ramdisk_addr_r} /lifeboat/armhf/initrd; then
      bootz ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${tree}
    fi
  fi
fi
