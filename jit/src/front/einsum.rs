//! Einsum: `einsum("bij,bjk->bik", &[&x, &y])`.
//!
//! The subscripts and the operands come in, ops go out. Operands are contracted from left to right, two at a time. Not
//! done: a search for a cheaper contraction order.

use std::panic::Location;

use super::tensor::Tensor;
use crate::error::Error;
use crate::graph::DotAxes;
use crate::types::{Axes, DType, TensorType, join};

/// A sum of products in index notation, as `jax.numpy.einsum`: `spec` has a letter for each axis of each operand, then
/// `->` and the letters of the result. Without `->` the result has the letters that occur once, in alphabetical order.
/// A repeated letter within an operand takes its diagonal.
///
/// ```no_run
/// use fulgurite_jit::{Tensor, einsum};
/// fn scores(q: &Tensor, k: &Tensor) -> Tensor {
///     einsum("bhqd,bhkd->bhqk", &[q, k])
/// }
/// ```
///
/// # Errors
/// If the letters do not match the operands. `...` is not supported.
#[track_caller]
pub fn einsum(spec: &str, operands: &[&Tensor]) -> Tensor {
    let location = Location::caller();
    // No closure, so that `track_caller` gives the ops the user's location.
    let result = match parse(spec, operands) {
        Ok((terms, letters)) => contract(terms, &letters),
        Err(why) => Err(why),
    };
    result.unwrap_or_else(|why| {
        let dtype = operands.first().map_or(DType::F32, |x| x.dtype());
        Tensor::failed(TensorType::scalar(dtype), Error::op("einsum", format!("{spec}: {why}"), location))
    })
}

/// A tensor and the letters of its axes.
struct Term {
    x: Tensor,
    letters: Vec<char>,
}

/// The operands with their letters, and the letters of the result.
fn parse(spec: &str, operands: &[&Tensor]) -> Result<(Vec<Term>, Vec<char>), String> {
    let spec: String = spec.chars().filter(|c| !c.is_whitespace()).collect();
    if let Some(bad) = spec.replace("->", "").chars().find(|c| !c.is_ascii_alphabetic() && *c != ',') {
        return Err(format!("{bad:?} is no letter"));
    }
    let (left, right) = spec.split_once("->").map_or((&spec[..], None), |(left, right)| (left, Some(right)));
    let inputs: Vec<Vec<char>> = left.split(',').map(|letters| letters.chars().collect()).collect();
    if inputs.len() != operands.len() {
        return Err(format!("{} lists of letters for {} operands", inputs.len(), operands.len()));
    }
    let count = |letter: &char| inputs.iter().flatten().filter(|other| *other == letter).count();
    let result: Vec<char> = match right {
        Some(right) => right.chars().collect(),
        None => ('A'..='z').filter(|letter| count(letter) == 1).collect(),
    };
    for (i, letter) in result.iter().enumerate() {
        if count(letter) == 0 || result[..i].contains(letter) {
            return Err(format!("{letter} is twice in the result, or in no operand"));
        }
    }
    let mut terms = Vec::new();
    for (letters, x) in inputs.into_iter().zip(operands) {
        if letters.len() != x.rank() {
            return Err(format!("{} letters for {}", letters.len(), x.ty()));
        }
        terms.push(Term { x: (*x).clone(), letters });
    }
    Ok((terms, result))
}

#[track_caller]
fn contract(terms: Vec<Term>, result: &[char]) -> Result<Tensor, String> {
    let mut rest = terms.into_iter();
    let mut product = rest.next().ok_or("there are no operands")?;
    loop {
        // Sum over letters as soon as no later operand and no result uses them.
        let later: Vec<char> = rest.as_slice().iter().flat_map(|term| &term.letters).chain(result).copied().collect();
        product = product.diagonals()?.sum_all_but(&later);
        let Some(next) = rest.next() else { break };
        let later: Vec<char> = rest.as_slice().iter().flat_map(|term| &term.letters).chain(result).copied().collect();
        let live: Vec<char> = product.letters.iter().chain(&later).copied().collect();
        product = product.times(next.diagonals()?.sum_all_but(&live), &later)?;
    }
    let position = |letter: &char| product.axis(*letter).ok_or(format!("{letter} is lost"));
    let perm = result.iter().map(position).collect::<Result<Axes, String>>()?;
    Ok(product.x.transpose(&perm))
}

impl Term {
    fn axis(&self, letter: char) -> Option<usize> {
        self.letters.iter().position(|other| *other == letter)
    }

    /// Replaces the axes of a repeated letter by their diagonal.
    #[track_caller]
    fn diagonals(mut self) -> Result<Self, String> {
        while let Some(second) = (0..self.letters.len()).find(|&i| self.letters[..i].contains(&self.letters[i])) {
            let shape = self.x.shape();
            let first = self.axis(self.letters[second]).unwrap_or(second);
            if shape[first] != shape[second] {
                return Err(format!("{} has no diagonal of axes {first} and {second}", self.x.ty()));
            }
            let index = |axis| Tensor::iota(DType::I32, shape, axis);
            let diagonal = index(first).equal(index(second)).select(&self.x, self.x.zeros_like());
            self.x = diagonal.sum_axes(second as isize);
            self.letters.remove(second);
        }
        Ok(self)
    }

    /// Sums over the axes whose letters are not in `keep`.
    #[track_caller]
    fn sum_all_but(self, keep: &[char]) -> Self {
        let axes: Axes = (0..self.letters.len()).filter(|&i| !keep.contains(&self.letters[i])).collect();
        let letters = self.letters.into_iter().filter(|letter| keep.contains(letter)).collect();
        Term { x: self.x.sum_axes(&axes), letters }
    }

    /// The product with `other`, summed over the shared letters that are not in `later`.
    #[track_caller]
    fn times(self, other: Term, later: &[char]) -> Result<Self, String> {
        let mut axes = DotAxes::default();
        for (i, &letter) in self.letters.iter().enumerate() {
            let Some(j) = other.axis(letter) else { continue };
            if self.x.shape()[i] != other.x.shape()[j] {
                let shapes = [self.x.ty(), other.x.ty()];
                return Err(format!("{letter} has two extents in {}", join(&shapes, " and ")));
            }
            if later.contains(&letter) { axes.batch.push((i, j)) } else { axes.contract.push((i, j)) }
        }
        let mut letters: Vec<char> = axes.batch.iter().map(|&(i, _)| self.letters[i]).collect();
        letters.extend(axes.free(0, self.letters.len()).iter().map(|&i| self.letters[i]));
        letters.extend(axes.free(1, other.letters.len()).iter().map(|&j| other.letters[j]));
        Ok(Term { x: self.x.dot_general(&other.x, axes), letters })
    }
}

#[cfg(test)]
mod tests {
    use super::einsum;
    use crate::front::trace::trace;
    use crate::types::{DType, TensorType};

    /// The result type for f32 operands of these shapes, or the error message.
    fn ty(spec: &str, shapes: &[&[usize]]) -> String {
        let types: Vec<TensorType> = shapes.iter().map(|shape| TensorType::new(DType::F32, shape)).collect();
        let traced = trace(&types, |xs| vec![einsum(spec, &xs.iter().collect::<Vec<_>>())]);
        traced.map_or_else(|error| error.to_string(), |traced| traced.graph.output_types()[0].to_string())
    }

    #[test]
    fn types_of_results() {
        assert_eq!(ty("ij,jk->ki", &[&[2, 3], &[3, 4]]), "f32[4,2]");
        assert_eq!(ty("ba", &[&[2, 3]]), "f32[3,2]");
        assert_eq!(ty("ij,jk", &[&[2, 3], &[3, 4]]), "f32[2,4]");
        assert_eq!(ty("i,i,i->", &[&[3], &[3], &[3]]), "f32[]");
        assert_eq!(ty("iji->j", &[&[2, 3, 2]]), "f32[3]");
    }

    #[test]
    fn errors_are_reported() {
        for (spec, shapes, message) in [
            ("ij->k", &[&[2, 3][..]][..], "k is twice in the result, or in no operand"),
            ("ij,j->i", &[&[2, 3], &[4]], "j has two extents"),
            ("ii->i", &[&[2, 3]], "no diagonal"),
            ("i->i", &[&[2, 3]], "1 letters for f32[2,3]"),
            ("...i->i", &[&[2]], "'.' is no letter"),
            ("i->i", &[], "1 lists of letters for 0 operands"),
        ] {
            let text = ty(spec, shapes);
            assert!(text.contains(message) && text.contains("einsum.rs"), "{text}");
        }
    }
}
