//! Compilation units, wherever their parts are.

use std::path::{Path, PathBuf};

use gimli::{AttributeValue, DebugInfoOffset, Dwarf, DwarfPackage, Unit, UnitOffset};

use crate::elf::{Bytes, Image, reader};
use crate::search::Files;

/// An entry: which unit, and where in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) unit: u32,
    pub(crate) offset: UnitOffset<usize>,
}

/// A unit, and which of [`Units::dwarfs`] it is in.
pub(crate) struct UnitIn {
    pub(crate) dwarf: usize,
    pub(crate) unit: Unit<Bytes>,
    /// Where it starts in its section.
    start: usize,
    end: usize,
}

/// All units of a file.
pub(crate) struct Units {
    pub(crate) dwarfs: Vec<Dwarf<Bytes>>,
    /// Those with entries, by file and place in it.
    pub(crate) units: Vec<UnitIn>,
    /// Those of the file itself, which have the tables of lines.
    pub(crate) skeletons: Vec<Unit<Bytes>>,
    /// Files that were named and are not there.
    pub(crate) missing: Vec<String>,
}

pub(crate) type Entry = gimli::DebuggingInformationEntry<Bytes>;

/// References lead no further than this.
pub(crate) const MAX_HOPS: usize = 16;

fn load(image: &Image, suffix: &str) -> Option<Dwarf<Bytes>> {
    Dwarf::load(|id| -> Result<Bytes, gimli::Error> {
        let name = if suffix.is_empty() {
            Some(id.name())
        } else {
            id.dwo_name()
        };
        let empty = || reader([].into());
        Ok(name
            .and_then(|name| image.section(name))
            .unwrap_or_else(empty))
    })
    .ok()
}

impl Units {
    /// Reads the units of the debug information of the file at `path`.
    pub(crate) fn read(image: &Image, path: &Path, files: &dyn Files) -> Option<Self> {
        let main = load(image, "")?;
        let mut headers = main.units();
        let mut whole = Vec::new();
        while let Ok(Some(header)) = headers.next() {
            if let Ok(unit) = main.unit(header) {
                whole.push(unit);
            }
        }
        let mut units = Self {
            dwarfs: vec![main],
            units: Vec::new(),
            skeletons: Vec::new(),
            missing: Vec::new(),
        };
        let mut package = None;
        for unit in whole {
            let split = units.split_of(&unit, path, files, &mut package);
            let copy = || {
                let main = &units.dwarfs[0];
                main.unit(unit.header.clone()).ok()
            };
            let skeleton = copy();
            match split {
                Some((dwarf, split)) => {
                    units.dwarfs.push(dwarf);
                    let at = units.dwarfs.len() - 1;
                    units.add(at, split);
                }
                None => units.add(0, unit),
            }
            units.skeletons.extend(skeleton);
        }
        (!units.units.is_empty()).then_some(units)
    }

    fn add(&mut self, dwarf: usize, unit: Unit<Bytes>) {
        let start = unit.header.debug_info_offset().map_or(0, |offset| offset.0);
        let end = start + unit.header.length_including_self();
        self.units.push(UnitIn {
            dwarf,
            unit,
            start,
            end,
        });
    }

    /// The part of a unit that was left in a file of its own.
    fn split_of(
        &mut self,
        unit: &Unit<Bytes>,
        path: &Path,
        files: &dyn Files,
        package: &mut Option<Option<DwarfPackage<Bytes>>>,
    ) -> Option<(Dwarf<Bytes>, Unit<Bytes>)> {
        let id = unit.dwo_id?;
        let name = unit.dwo_name().ok()??;
        let text = |value| {
            let text = self.dwarfs[0].attr_string(unit, value).ok()?;
            Some(String::from_utf8_lossy(&text).into_owned())
        };
        let name = text(name)?;
        let beside = path.parent().unwrap_or(Path::new(""));
        let package = package.get_or_insert_with(|| {
            let mut name = path.file_name()?.to_owned();
            name.push(".dwp");
            let image = Image::parse(files.read(&beside.join(name))?)?;
            let section = |id: gimli::SectionId| -> Result<Bytes, gimli::Error> {
                let found = id.dwo_name().and_then(|name| image.section(name));
                Ok(found.unwrap_or_else(|| reader([].into())))
            };
            DwarfPackage::load(section, reader([].into())).ok()
        });
        let only_unit = |dwarf: Dwarf<Bytes>| {
            let mut headers = dwarf.units();
            while let Ok(Some(header)) = headers.next() {
                if let Ok(mut split) = dwarf.unit(header)
                    && split.dwo_id.is_none_or(|found| found == id)
                {
                    split.copy_relocated_attributes(unit);
                    return Some((dwarf, split));
                }
            }
            None
        };
        if let Some(package) = package
            && let Ok(Some(dwarf)) = package.find_cu(id, &self.dwarfs[0])
        {
            return only_unit(dwarf);
        }
        let mut candidates = vec![beside.join(&name)];
        if let Some(directory) = &unit.comp_dir {
            let directory = PathBuf::from(String::from_utf8_lossy(directory).into_owned());
            candidates.push(directory.join(&name));
        }
        if let Some(file) = Path::new(&name).file_name() {
            candidates.push(beside.join(file));
        }
        let found = candidates.iter().find_map(|candidate| {
            let image = Image::parse(files.read(candidate)?)?;
            let mut dwarf = load(&image, ".dwo")?;
            dwarf.make_dwo(&self.dwarfs[0]);
            only_unit(dwarf)
        });
        if found.is_none() {
            let file = Path::new(&name).file_name().unwrap_or_default();
            self.missing.push(file.to_string_lossy().into_owned());
        }
        found
    }

    pub(crate) fn at(&self, unit: u32) -> (&Dwarf<Bytes>, &Unit<Bytes>) {
        let unit = &self.units[unit as usize];
        (&self.dwarfs[unit.dwarf], &unit.unit)
    }

    pub(crate) fn entry(&self, place: Place) -> Option<Entry> {
        self.at(place.unit).1.entry(place.offset).ok()
    }

    /// What a reference leads to.
    pub(crate) fn follow(&self, unit: u32, value: AttributeValue<Bytes>) -> Option<Place> {
        match value {
            AttributeValue::UnitRef(offset) => Some(Place { unit, offset }),
            AttributeValue::DebugInfoRef(DebugInfoOffset(offset)) => {
                let dwarf = self.units[unit as usize].dwarf;
                let found = self.units.iter().position(|candidate| {
                    candidate.dwarf == dwarf && (candidate.start..candidate.end).contains(&offset)
                })?;
                let start = self.units[found].start;
                Some(Place {
                    unit: found as u32,
                    offset: UnitOffset(offset - start),
                })
            }
            _ => None,
        }
    }

    /// An attribute of an entry, or of the entry that it is an instance or the definition of.
    pub(crate) fn attr(
        &self,
        place: Place,
        entry: &Entry,
        name: gimli::DwAt,
    ) -> Option<(u32, AttributeValue<Bytes>)> {
        let mut unit = place.unit;
        if let Some(value) = entry.attr_value(name) {
            return Some((unit, value));
        }
        let origin = |entry: &Entry| {
            entry
                .attr_value(gimli::DW_AT_abstract_origin)
                .or_else(|| entry.attr_value(gimli::DW_AT_specification))
        };
        let mut next = origin(entry);
        for _ in 0..MAX_HOPS {
            let at = self.follow(unit, next?)?;
            let entry = self.entry(at)?;
            unit = at.unit;
            if let Some(value) = entry.attr_value(name) {
                return Some((unit, value));
            }
            next = origin(&entry);
        }
        None
    }

    /// A text attribute.
    pub(crate) fn text(&self, place: Place, entry: &Entry, name: gimli::DwAt) -> Option<String> {
        let (unit, value) = self.attr(place, entry, name)?;
        let (dwarf, unit) = self.at(unit);
        let text = dwarf.attr_string(unit, value).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    pub(crate) fn name(&self, place: Place, entry: &Entry) -> String {
        self.text(place, entry, gimli::DW_AT_name)
            .unwrap_or_default()
    }

    /// The type of an entry; `None`: `void`.
    pub(crate) fn type_of(&self, place: Place, entry: &Entry) -> Option<Place> {
        let (unit, value) = self.attr(place, entry, gimli::DW_AT_type)?;
        self.follow(unit, value)
    }

    /// Children of an entry, with their places.
    pub(crate) fn children(&self, place: Place) -> Vec<(Place, Entry)> {
        let (_, unit) = self.at(place.unit);
        let mut found = Vec::new();
        let Ok(mut tree) = unit.entries_tree(Some(place.offset)) else {
            return found;
        };
        let Ok(root) = tree.root() else {
            return found;
        };
        let mut children = root.children();
        while let Ok(Some(child)) = children.next() {
            let entry = child.entry().clone();
            let at = Place {
                unit: place.unit,
                offset: entry.offset(),
            };
            found.push((at, entry));
        }
        found
    }
}
