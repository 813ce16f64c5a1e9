//! Layers, links and paths that lead astray.

use super::*;

fn tree() -> Tree {
    Tree::new(Limits::default())
}

fn small(change: impl FnOnce(&mut Limits)) -> Tree {
    let mut limits = Limits::default();
    change(&mut limits);
    Tree::new(limits)
}

fn file(tree: &mut Tree, path: &str) -> Result<(), TreeError> {
    tree.put(
        path.as_bytes(),
        Meta::default(),
        Kind::File(Default::default()),
    )
}

fn directory(tree: &mut Tree, path: &str) {
    tree.put(path.as_bytes(), Meta::default(), Kind::directory())
        .unwrap();
}

fn symlink(tree: &mut Tree, path: &str, target: &str) {
    let kind = Kind::Symlink(target.as_bytes().into());
    tree.put(path.as_bytes(), Meta::default(), kind).unwrap();
}

fn has(tree: &Tree, path: &str) -> bool {
    tree.find(path.as_bytes()).unwrap().is_some()
}

#[test]
fn a_path_that_climbs_is_refused() {
    for path in ["../x", "a/../../x", "a/.."] {
        assert!(
            matches!(file(&mut tree(), path), Err(TreeError::Escape(_))),
            "{path}"
        );
    }
}

#[test]
fn an_absolute_path_stands_in_the_image() {
    let mut tree = tree();
    file(&mut tree, "/etc/passwd").unwrap();
    assert!(has(&tree, "etc/passwd"));
}

#[test]
fn a_link_that_leads_out_leads_to_the_root_of_the_image() {
    let mut tree = tree();
    directory(&mut tree, "etc");
    symlink(&mut tree, "out", "../../../../etc");
    file(&mut tree, "out/passwd").unwrap();
    assert!(has(&tree, "etc/passwd"));
}

#[test]
fn an_entry_below_a_link_to_nothing_is_refused() {
    let mut tree = tree();
    symlink(&mut tree, "out", "/nowhere");
    assert!(matches!(
        file(&mut tree, "out/x"),
        Err(TreeError::Parent(_))
    ));
}

#[test]
fn a_directory_is_made_below_a_link_to_a_directory() {
    let mut tree = tree();
    directory(&mut tree, "usr/lib");
    symlink(&mut tree, "lib", "usr/lib");
    file(&mut tree, "lib/new/deep/x").unwrap();
    assert!(has(&tree, "usr/lib/new/deep/x"));
}

#[test]
fn links_in_a_circle_end() {
    let mut tree = tree();
    symlink(&mut tree, "a", "b");
    symlink(&mut tree, "b", "a");
    assert!(matches!(file(&mut tree, "a/x"), Err(TreeError::Loop(_))));
    assert_eq!(tree.open(b"a"), None);
}

#[test]
fn an_entry_below_a_file_is_refused() {
    let mut tree = tree();
    file(&mut tree, "a").unwrap();
    assert!(matches!(file(&mut tree, "a/b"), Err(TreeError::Parent(_))));
}

#[test]
fn a_whiteout_hides_lower_layers_only() {
    let mut tree = tree();
    file(&mut tree, "a").unwrap();
    file(&mut tree, "b").unwrap();
    tree.next_layer();
    file(&mut tree, "b").unwrap();
    tree.hide(b"a").unwrap();
    tree.hide(b"b").unwrap();
    assert!(!has(&tree, "a"));
    assert!(has(&tree, "b"));
}

#[test]
fn an_opaque_directory_keeps_what_its_layer_has() {
    let mut tree = tree();
    file(&mut tree, "d/old").unwrap();
    file(&mut tree, "d/sub/old").unwrap();
    tree.next_layer();
    file(&mut tree, "d/sub/new").unwrap();
    tree.hide_below(b"d").unwrap();
    assert!(!has(&tree, "d/old") && !has(&tree, "d/sub/old"));
    assert!(has(&tree, "d/sub/new"));
}

#[test]
fn a_hidden_directory_takes_its_files_with_it() {
    let mut tree = tree();
    file(&mut tree, "d/a/b").unwrap();
    tree.next_layer();
    tree.hide(b"d").unwrap();
    assert!(!has(&tree, "d"));
}

#[test]
fn a_file_replaces_a_directory() {
    let mut tree = tree();
    file(&mut tree, "d/a").unwrap();
    tree.next_layer();
    file(&mut tree, "d").unwrap();
    assert!(!has(&tree, "d/a"));
}

#[test]
fn a_directory_over_a_directory_keeps_its_names() {
    let mut tree = tree();
    file(&mut tree, "d/a").unwrap();
    tree.next_layer();
    directory(&mut tree, "d");
    assert!(has(&tree, "d/a"));
}

#[test]
fn a_hard_link_is_one_more_name() {
    let mut tree = tree();
    file(&mut tree, "a").unwrap();
    tree.link(b"b", b"a").unwrap();
    assert_eq!(tree.find(b"a").unwrap(), tree.find(b"b").unwrap());
}

#[test]
fn a_hard_link_to_the_outside_is_refused() {
    for target in ["../../etc/shadow", "/etc/shadow"] {
        assert!(tree().link(b"b", target.as_bytes()).is_err(), "{target}");
    }
}

#[test]
fn a_hard_link_to_a_directory_is_refused() {
    let mut tree = tree();
    directory(&mut tree, "d");
    assert!(matches!(
        tree.link(b"d/d", b"d"),
        Err(TreeError::Link { .. })
    ));
}

#[test]
fn devices_stand_in_dev_only() {
    let mut tree = tree();
    symlink(&mut tree, "link", "dev");
    directory(&mut tree, "dev");
    for path in ["dev/null", "null", "srv/dev/null", "link/zero"] {
        tree.put(path.as_bytes(), Meta::default(), Kind::Character(1, 3))
            .unwrap();
    }
    assert!(has(&tree, "dev/null") && has(&tree, "dev/zero"));
    assert!(!has(&tree, "null") && !has(&tree, "srv/dev/null"));
    tree.link(b"null", b"dev/null").unwrap();
    assert!(!has(&tree, "null"));
    assert_eq!(tree.devices_left_out(), 3);
}

#[test]
fn a_device_that_means_deletion_is_left_out() {
    let mut tree = tree();
    tree.put(b"dev/x", Meta::default(), Kind::Character(0, 0))
        .unwrap();
    assert!(!has(&tree, "dev/x"));
}

#[test]
fn entries_have_a_limit_also_as_links_and_whiteouts() {
    let mut tree = small(|limits| limits.entries = 10);
    file(&mut tree, "a").unwrap();
    for number in 0..9 {
        tree.link(format!("{number}").as_bytes(), b"a").unwrap();
    }
    assert!(matches!(tree.link(b"x", b"a"), Err(TreeError::Entries(10))));
    assert!(matches!(tree.hide(b"a"), Err(TreeError::Entries(10))));
}

#[test]
fn depth_has_a_limit_also_through_links() {
    let mut tree = small(|limits| limits.depth = 8);
    assert!(matches!(
        file(&mut tree, &"d/".repeat(9)),
        Err(TreeError::Deep { .. })
    ));
    directory(&mut tree, "a/b/c/d/e/f");
    symlink(&mut tree, "l", "a/b/c/d/e/f");
    assert!(matches!(
        file(&mut tree, "l/g/h/i/j"),
        Err(TreeError::Deep { .. })
    ));
}

#[test]
fn memory_has_a_limit() {
    let mut tree = small(|limits| limits.memory = 100);
    let made = (0..20).try_for_each(|number| file(&mut tree, &format!("a-long-name-{number}")));
    assert!(matches!(made, Err(TreeError::Memory(100))));
}

#[test]
fn names_that_no_file_has_are_refused() {
    let mut tree = tree();
    assert!(matches!(
        file(&mut tree, &"n".repeat(256)),
        Err(TreeError::Name(_))
    ));
    assert!(matches!(file(&mut tree, "a\0b"), Err(TreeError::Name(_))));
}

#[test]
fn the_root_stays_a_directory() {
    let mut tree = tree();
    symlink(&mut tree, "/", "/etc");
    assert!(tree.names(Tree::ROOT).is_some());
}
