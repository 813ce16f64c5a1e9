//! Kernels, the ways into them, and initrds.

use crate::guest::{Guest, Outcome};

crate::tests!(
    STOCK => [
        the_stock_vmlinux_boots_by_pvh,
        the_stock_vmlinux_boots_by_the_64_bit_protocol,
        the_stock_bzimage_boots,
        the_stock_kernel_reads_a_gzip_initrd,
        the_stock_kernel_reads_an_xz_initrd,
        the_stock_kernel_reads_a_zstd_initrd,
        the_stock_kernel_reads_an_lz4_initrd,
    ],
    TRIMMED => [
        the_trimmed_vmlinux_boots_by_pvh,
        the_trimmed_vmlinux_boots_by_the_64_bit_protocol,
        the_trimmed_bzimage_boots,
    ],
);

/// Says which kernel this is; the status is one that nothing else gives.
const GREETING: &str = "echo kernel=$(uname -r); exit 7";

fn greets(guest: Guest) -> Outcome {
    let outcome = guest.script(GREETING).run();
    outcome
        .status(7)
        .last_line("the guest powered off; its command's status was 7");
    outcome
}

fn the_stock_vmlinux_boots_by_pvh() {
    assert!(
        greets(Guest::stock().flag("--protocol", "pvh"))
            .value("kernel")
            .ends_with("-cloud-amd64")
    );
}

fn the_stock_vmlinux_boots_by_the_64_bit_protocol() {
    greets(Guest::stock().flag("--protocol", "linux64"));
}

fn the_stock_bzimage_boots() {
    greets(Guest::new().kernel("vmlinuz").initrd("initramfs"));
}

fn the_stock_kernel_reads_a_gzip_initrd() {
    greets(Guest::new().kernel("vmlinux").initrd("initramfs.gz"));
}

fn the_stock_kernel_reads_an_xz_initrd() {
    greets(Guest::new().kernel("vmlinux").initrd("initramfs.xz"));
}

fn the_stock_kernel_reads_a_zstd_initrd() {
    greets(Guest::new().kernel("vmlinux").initrd("initramfs.zst"));
}

fn the_stock_kernel_reads_an_lz4_initrd() {
    greets(Guest::new().kernel("vmlinux").initrd("initramfs.lz4"));
}

fn the_trimmed_vmlinux_boots_by_pvh() {
    assert!(
        greets(Guest::trimmed().flag("--protocol", "pvh"))
            .value("kernel")
            .ends_with("-ravelin")
    );
}

fn the_trimmed_vmlinux_boots_by_the_64_bit_protocol() {
    greets(Guest::trimmed().flag("--protocol", "linux64"));
}

fn the_trimmed_bzimage_boots() {
    greets(Guest::new().kernel("bzImage-trimmed").initrd("initramfs"));
}
