"""The guest kit: kernels, initramfs and root image, made from Debian packages."""
