//! Pictures of a guest's screen: QEMU writes PPM, browsers read PNG.

use std::io::BufWriter;
use std::path::Path;

use nodekiln_words::{Class, Failure, Result, ResultExt as _};

/// Most pixels of a screen: that of any graphics card that QEMU emulates here is far smaller.
const MOST_PIXELS: usize = 1 << 25;

/// Writes the picture in the file `ppm` as PNG to `png`, and removes it.
///
/// # Errors
/// When a file cannot be read or written, or `ppm` is none of QEMU's pictures.
pub(crate) fn keep(ppm: &Path, png: &Path) -> Result<()> {
    let bytes = fs_err::read(ppm).or_io(|| "read the picture of the screen".into())?;
    let _ = fs_err::remove_file(ppm);
    let (width, height, pixels) = picture(&bytes)?;
    let file = fs_err::File::create(png).or_io(|| "keep the picture of the screen".into())?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(pixels))
        .or_io(|| "keep the picture of the screen".into())
}

/// Width, height and the bytes of the pixels, three each, of a picture in the form `P6` (ppm(5)) as QEMU writes it:
/// no comments, 255 levels.
fn picture(bytes: &[u8]) -> Result<(u32, u32, &[u8])> {
    let wrong = || Failure::new(Class::Io, "QEMU's picture of the screen is no PPM");
    let mut at = 0;
    let mut word = || {
        let rest = bytes.get(at..)?;
        let end = rest.iter().position(u8::is_ascii_whitespace)?;
        at += end + 1;
        std::str::from_utf8(&rest[..end]).ok()
    };
    let (magic, width, height, most) = (word(), word(), word(), word());
    let number = |word: Option<&str>| word?.parse::<u32>().ok().filter(|number| *number > 0);
    let (Some("P6"), Some(width), Some(height), Some(255)) =
        (magic, number(width), number(height), number(most))
    else {
        return Err(wrong());
    };
    let count = (width as usize).checked_mul(height as usize).filter(|count| *count <= MOST_PIXELS);
    let length = count.ok_or_else(wrong)? * 3;
    let pixels = bytes.get(at..at + length).ok_or_else(wrong)?;
    Ok((width, height, pixels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_keeps_its_pixels() {
        let folder = tempfile::tempdir().unwrap();
        let (ppm, png) = (folder.path().join("s.ppm"), folder.path().join("s.png"));
        let pixels = [1, 2, 3, 4, 5, 6, 7, 8, 9, 250, 251, 252];
        fs_err::write(&ppm, [b"P6\n2 2\n255\n".as_slice(), &pixels].concat()).unwrap();
        keep(&ppm, &png).unwrap();
        assert!(!ppm.exists());
        let file = std::io::BufReader::new(std::fs::File::open(&png).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut read = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut read).unwrap();
        assert_eq!((info.width, info.height), (2, 2));
        assert_eq!(read, pixels);
    }

    #[test]
    fn what_is_cut_off_or_no_picture_is_refused() {
        for bytes in [
            &b"P6\n2 2\n255\n123"[..],
            b"P5\n1 1\n255\n1",
            b"",
            b"P6\n0 2\n255\n",
            b"P6\n99999999 99999999\n255\n",
        ] {
            assert!(picture(bytes).is_err(), "{bytes:?}");
        }
    }
}
