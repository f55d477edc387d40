// SPDX-License-Identifier: Apache-2.0
//! Programs of UEFI, made byte by byte: what the room `uki` is tested and fuzzed with.

/// Where the PE header is.
pub(crate) const PE: usize = 0x80;
/// Where the optional header's checksum, the number of its directories, and the directory of signatures are.
pub(crate) const CHECKSUM: usize = PE + 24 + 64;
pub(crate) const DIRECTORIES: usize = PE + 24 + 108;
pub(crate) const SECURITY: usize = DIRECTORIES + 4 + 4 * 8;
/// Where the table of sections is, and the bytes of an entry.
pub(crate) const SECTIONS: usize = PE + 24 + 240;
pub(crate) const SECTION_LEN: usize = 40;
/// What sections begin at a multiple of in the file, and in memory.
const FILE_ALIGNMENT: usize = 0x200;
const MEMORY_ALIGNMENT: usize = 0x1000;

/// A program for x86-64 with these sections.
pub(crate) fn program(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; PE];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = u8::try_from(PE).unwrap();
    let count = u16::try_from(sections.len()).unwrap();
    bytes.extend(b"PE\0\0");
    bytes.extend(0x8664_u16.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend([0; 12]);
    bytes.extend(240_u16.to_le_bytes());
    bytes.extend(0x0206_u16.to_le_bytes());
    let headers_len = up(SECTIONS + sections.len() * SECTION_LEN, FILE_ALIGNMENT);
    bytes.extend(optional_header(headers_len, sections));
    let (mut offset, mut address) = (headers_len, MEMORY_ALIGNMENT);
    for (name, contents) in sections {
        let mut entry = [0; SECTION_LEN];
        entry[..name.len()].copy_from_slice(name.as_bytes());
        let len = up(contents.len(), FILE_ALIGNMENT);
        for (at, value) in [(8, contents.len()), (12, address), (16, len), (20, offset)] {
            entry[at..at + 4].copy_from_slice(&u32::try_from(value).unwrap().to_le_bytes());
        }
        bytes.extend(entry);
        offset += len;
        address += up(contents.len(), MEMORY_ALIGNMENT);
    }
    bytes.resize(headers_len, 0);
    for (_, contents) in sections {
        bytes.extend(*contents);
        bytes.resize(up(bytes.len(), FILE_ALIGNMENT), 0);
    }
    bytes
}

fn optional_header(headers_len: usize, sections: &[(&str, &[u8])]) -> Vec<u8> {
    let long = |value: usize| u32::try_from(value).unwrap().to_le_bytes();
    let lens = sections
        .iter()
        .map(|(_, it)| up(it.len(), MEMORY_ALIGNMENT));
    let memory_len = MEMORY_ALIGNMENT + lens.sum::<usize>();
    let mut header = vec![0x0b, 0x02, 0, 0];
    // Lengths of code and data, then entry point and base of code.
    header.extend([0; 12]);
    header.extend(long(MEMORY_ALIGNMENT));
    header.extend(long(MEMORY_ALIGNMENT));
    header.extend([0; 8]);
    header.extend(long(MEMORY_ALIGNMENT));
    header.extend(long(FILE_ALIGNMENT));
    header.extend([0; 16]);
    header.extend(long(memory_len));
    header.extend(long(headers_len));
    // No checksum; the subsystem is an application of UEFI.
    header.extend([0; 4]);
    header.extend(10_u16.to_le_bytes());
    header.resize(108, 0);
    header.extend(long(16));
    header.resize(240, 0);
    header
}

/// The program with a table of signatures behind it.
pub(crate) fn signed(mut program: Vec<u8>, signature: &[u8]) -> Vec<u8> {
    let offset = u32::try_from(program.len()).unwrap();
    let len = u32::try_from(up(8 + signature.len(), 8)).unwrap();
    program[SECURITY..SECURITY + 4].copy_from_slice(&offset.to_le_bytes());
    program[SECURITY + 4..SECURITY + 8].copy_from_slice(&len.to_le_bytes());
    program.extend(u32::try_from(8 + signature.len()).unwrap().to_le_bytes());
    // Revision 2, PKCS#7.
    program.extend([0, 2, 2, 0]);
    program.extend(signature);
    program.resize(up(program.len(), 8), 0);
    program
}

/// A unified kernel image with these sections, and a kernel that is a program.
pub(crate) fn image(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let kernel = program(&[(".text", b"the kernel")]);
    let mut all = vec![(".text", &b"the stub"[..])];
    all.extend(sections);
    all.push((".linux", &kernel));
    program(&all)
}

fn up(len: usize, to: usize) -> usize {
    len.next_multiple_of(to)
}
