//! /etc/fstab: what is mounted where.

/// A line of it that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Its number, from 1.
    pub line: usize,
    /// What is mounted: a tag and a value, or a path.
    pub what: &'a str,
    /// Where, without a slash at the end, the root excepted; `none` for swap.
    pub place: &'a str,
    /// What kind it is said to be.
    pub kind: &'a str,
    /// Its options, separated by commas.
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// Those of `text`, in their order.
    pub fn of(text: &'a str) -> impl Iterator<Item = Self> {
        (1..).zip(text.lines()).filter_map(|(line, text)| {
            let mut fields = text.split_whitespace();
            let what = fields.next().filter(|what| !what.starts_with('#'))?;
            let place = match fields.next()? {
                "/" => "/",
                place => place.trim_end_matches('/'),
            };
            let (kind, options) =
                (fields.next().unwrap_or("auto"), fields.next().unwrap_or("defaults"));
            Some(Self { line, what, place, kind, options })
        })
    }

    /// Whether it has the option `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.options.split(',').any(|option| option == name)
    }

    /// Whether it has a place in the tree below the root, be it mounted at boot or when somebody asks.
    #[must_use]
    pub fn is_below_root(&self) -> bool {
        self.place.len() > 1 && self.place.starts_with('/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_say_something_are_read_with_what_they_leave_out() {
        let text = "# a /b\n\nUUID=1 / ext4 defaults 0 1\n  LABEL=var /var/ xfs noatime,nofail\nx\n\
                    /swap none swap sw,noauto\nLABEL=home /home\n";
        let mounts: Vec<Mount> = Mount::of(text).collect();
        let told: Vec<(usize, &str, &str, &str)> =
            mounts.iter().map(|it| (it.line, it.what, it.place, it.kind)).collect();
        assert_eq!(
            told,
            [
                (3, "UUID=1", "/", "ext4"),
                (4, "LABEL=var", "/var", "xfs"),
                (6, "/swap", "none", "swap"),
                (7, "LABEL=home", "/home", "auto")
            ]
        );
        assert!(mounts[1].has("nofail") && !mounts[1].has("no"));
        let below: Vec<&str> =
            mounts.iter().filter(|it| it.is_below_root()).map(|it| it.place).collect();
        assert_eq!(below, ["/var", "/home"]);
    }
}
