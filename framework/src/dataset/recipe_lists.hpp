// Internal to the recipes: each source file adds its own.
#pragma once

#include <vector>

#include "dataset/recipes.hpp"

namespace borel {

void add_value_recipes(std::vector<Recipe>& list);             // published tables
void add_mixture_recipes(std::vector<Recipe>& list);           // samples of known Gaussian mixtures
void add_berlinet_devroye_recipes(std::vector<Recipe>& list);  // samples with peaks, jumps and heavy tails
void add_conditional_recipes(std::vector<Recipe>& list);       // contexts and next values
void add_qk_recipes(std::vector<Recipe>& list);                // Gaussian queries and keys
void add_problem_recipes(std::vector<Recipe>& list);           // objectives with certified optima
void add_simplex_recipes(std::vector<Recipe>& list);           // more of them
void add_recall_recipes(std::vector<Recipe>& list);            // sequences for associative recall
void add_flow_recipes(std::vector<Recipe>& list);              // free energies with known flows
void add_table_recipes(std::vector<Recipe>& list);             // tables of several columns from a package
void add_model_recipes(std::vector<Recipe>& list);             // trained networks that come with the program
void add_package_recipes(
    std::vector<Recipe>& list);  // photographs and text from packages of the distribution

}  // namespace borel
