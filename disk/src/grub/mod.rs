//! GRUB without `grub-install`: images patched as bytes, and the configuration it reads.

mod config;
mod images;

pub use config::{Menu, environment_block, grub_cfg};
pub use images::{
    SignedLoader, bios_modules, core_image_arguments, esp_files, patch_boot_image, patch_core_image,
};
