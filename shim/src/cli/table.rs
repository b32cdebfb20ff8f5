//! Tables of text: columns padded to their widest cell.

/// Rows under a heading; cells are at least 12 wide and 3 apart, as runc's are.
pub(crate) fn render<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heading.map(|title| (title.len() + 3).max(12));
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + 3);
        }
    }
    let mut text = String::new();
    line(&mut text, &widths, heading.iter().copied());
    for row in rows {
        line(&mut text, &widths, row.iter().map(String::as_str));
    }
    text
}

fn line<'a>(text: &mut String, widths: &[usize], cells: impl Iterator<Item = &'a str>) {
    for (cell, width) in cells.zip(widths) {
        text.push_str(cell);
        let used = cell.chars().count();
        text.extend(std::iter::repeat_n(' ', width.saturating_sub(used)));
    }
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = ["web", "/a/rather/long/path", "x"].map(str::to_owned);
        assert_eq!(
            render(["ID", "BUNDLE", "OWNER"], &[row]),
            "ID          BUNDLE                OWNER\nweb         /a/rather/long/path   x\n"
        );
    }
}
